"""What the records say, judged and arranged for reading, and the files of results/ that say it without the code."""
