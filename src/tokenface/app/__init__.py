"""`tokenface serve`: web page and HTTP API, a thin layer over inference/, video/ and transfer/."""
