"""Image in, labels out: the code path shared by jobs and service."""
