"""One port for everybody: sessions of workers and clients, HTTP for people and programs."""
