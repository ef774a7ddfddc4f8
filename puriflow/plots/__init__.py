"""All pictures. The paper's figures are data like the tables: figure.py says what one is."""
