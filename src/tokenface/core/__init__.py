"""Infrastructure without faces: files, configuration, threads, processes, devices."""
