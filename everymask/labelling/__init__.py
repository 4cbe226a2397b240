"""Image in, labels out: the one code path of jobs and service."""
