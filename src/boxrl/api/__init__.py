"""boxrl in Python and in notebooks; `import boxrl` has these names, and loads them when asked.

detector   load a model, ask it, answer whole files
answers    what a model said about an image, and how it looks
drawing    boxes on an image
training   recipes, and what became of them
live       curves that grow in a notebook while a run trains
notebooks  the HTML that notebooks show
"""
