"""Packed samples in the forms that others read: `samples` reads them, one module a form."""
