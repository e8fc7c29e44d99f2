"""The Python example of Infracast's documentation. Only host and secret are not the document's; the last line shows
what came back."""

import json
import os

import requests

HOST = os.environ["INFRACAST_HOST"]
PASSWORD = os.environ["INFRACAST_PASSWORD"]

# Get token
auth_response = requests.post(
    f"{HOST}/api/v1/auth/token",
    json={"username": "admin", "password": PASSWORD}
)
token = auth_response.json()["token"]

# Use token
headers = {"Authorization": f"Bearer {token}"}
nodes = requests.get(
    f"{HOST}/api/v1/tenants/my-tenant/nodes",
    headers=headers
)

print(json.dumps({"status": nodes.status_code, "body": nodes.json()}))
