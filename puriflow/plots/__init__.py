"""All pictures: data frames and image arrays in, figures and files out."""
