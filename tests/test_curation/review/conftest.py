"""The browser for the tests of the page."""

from review_page import one, page

__all__ = ["one", "page"]
