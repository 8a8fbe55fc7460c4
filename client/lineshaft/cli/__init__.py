"""The command line: `lineshaft …`. Each command imports what it needs when it is run."""
