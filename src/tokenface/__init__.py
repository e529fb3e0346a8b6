"""Photos of people into 3-D heads."""
