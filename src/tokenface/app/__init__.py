"""`tokenface serve`: the web page and the HTTP API. Thin: what they do lives in inference/, video/ and transfer/."""
