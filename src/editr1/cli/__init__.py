"""The command line: parse, import what is needed, call. Nothing heavy is imported before a command runs."""
