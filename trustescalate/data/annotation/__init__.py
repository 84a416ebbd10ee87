"""People answer what a cascade left open, or what a certificate needs: queues, a local page, the way back.

Nothing here certifies, and nothing here looks at what a judge said of an item that it shows to people.
"""
