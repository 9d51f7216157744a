"""The doors: command line and jobs. Only this package prints, parses arguments and picks devices."""
