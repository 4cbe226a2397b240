"""Tests of exports on a cluster."""
