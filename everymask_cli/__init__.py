"""The console command `everymask`, which starts the jobs, the service and the pages."""
