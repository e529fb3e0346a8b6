"""What makes the files that the package ships; nothing that runs imports it."""
