"""Waiting for something in a page: its policy lets Playwright's own waiting evaluate nothing there."""


def until(page, expression, seconds=10):
    """Returns once `expression` is true in the page."""
    for _ in range(seconds * 20):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")
