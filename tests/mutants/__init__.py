"""Mutation runs: which single changes of a folder its tests do not notice."""
