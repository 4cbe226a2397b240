"""The console command `everymask`: one door to the jobs, the service and the page."""
