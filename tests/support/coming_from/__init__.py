"""What shows the rows of docs/guide/coming_from.md, tool by tool."""
