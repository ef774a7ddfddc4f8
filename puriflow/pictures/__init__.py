"""The paper's figures: data like the tables. figure.py says what one is, one file draws a kind."""
