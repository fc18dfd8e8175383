"""One module a family of `lpm` commands; arguments are parsed in `workflows.cli`."""
