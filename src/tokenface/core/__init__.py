"""Ground floor of computing: files, configuration, threads, processes, devices; no faces yet."""
