"""Training of the mini track's own networks, from a folder of photographs.

Only `puriflow train` comes here; nothing that purifies, attacks or classifies does.
"""
