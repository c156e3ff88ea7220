-- wrk: a small document a request.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name":"Ada","born":1815,"mathematician":true}'
