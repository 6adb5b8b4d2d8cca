"""Generated datasets: the scene, and sub-tasks for which we know the pixels that decide each class."""
