"""`lineshaft demo`: everything on one machine, with real work and real checks."""
