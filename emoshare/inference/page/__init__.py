"""The web page of `emoshare serve`: record or drop a file, and see the shares that trained runs give it.

`server` answers the browser, `static/` is what it gets; `guard` refuses other sites, `upload` bounds what comes in,
`turns` lets one computation run at a time, `analysis` is that computation.
"""
