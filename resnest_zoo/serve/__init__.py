"""A page to try detectors on, and the same as an HTTP API: `resnest-zoo serve`.

    limits     how much is accepted: bytes, pixels, pictures, seconds
    refusals   what a client is told when it gets no answer
    guard      who may ask: host, origin, token; and the headers of every answer
    bodies     what a request carries, within its limits
    models     the models that are served, loaded one after the other with their progress
    inference  a bounded queue and the one thread that runs models
    answers    predictions as JSON
    films      films, frame after frame
    metrics    numbers for monitoring
    openapi    the description of the API
    app        the routes
    server     socket, signals, the end

starlette, uvicorn and python-multipart are an extra: `pip install "resnest-zoo[serve]"`. Nothing that is
served comes from elsewhere than this package.
"""
