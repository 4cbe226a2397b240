"""What the project is built from: exact files of its dependencies, and their licences."""
