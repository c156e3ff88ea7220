"""What schemathesis has to know beyond docs/openapi.yaml."""

import json
import os

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")


if os.environ.get("FERRETDB"):
    # FerretDB 1 cannot read a collection any more that has a control character in a key, and ends the connection at a
    # decimal. The filter does not see the examples.
    @schemathesis.hook
    def filter_body(context, body):
        return "\\" not in json.dumps(body, default=str, ensure_ascii=False)

    @schemathesis.hook
    def before_call(context, case, kwargs):
        if isinstance(case.body, dict):
            case.body.pop("price", None)
