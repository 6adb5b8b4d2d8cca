"""What a report is made of: tables, figures and their style; knows no study."""
