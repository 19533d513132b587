"""The recipes: what each paper trains, on what, towards what."""
