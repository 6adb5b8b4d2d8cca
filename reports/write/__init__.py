"""Tables and figures as Markdown, LaTeX, CSV, HTML and for the terminal."""
