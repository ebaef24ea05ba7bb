"""Records to checked examples to tensors. Imports the forms and the nouns, never the store."""
