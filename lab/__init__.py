"""The doors: command line. Only this package prints, parses arguments and picks devices."""
