// The JavaScript example of Infracast's documentation. Only host and secret are not the document's; the last line shows
// what came back.
const { INFRACAST_HOST, INFRACAST_PASSWORD } = process.env;

// Get token
const authResponse = await fetch(`${INFRACAST_HOST}/api/v1/auth/token`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ username: 'admin', password: INFRACAST_PASSWORD })
});
const { token } = await authResponse.json();

// Use token
const nodes = await fetch(`${INFRACAST_HOST}/api/v1/tenants/my-tenant/nodes`, {
  headers: { 'Authorization': `Bearer ${token}` }
});

console.log(JSON.stringify({ status: nodes.status, body: await nodes.json() }));
