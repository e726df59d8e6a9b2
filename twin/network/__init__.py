"""The way between a client and a server: sockets, keys, messages and who may send them."""
