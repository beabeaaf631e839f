"use strict";
// Rows are asked of the server page by page.
{
  const ask = (name) => async (body) => {
    const answer = await fetch(`/api/${name}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body || {}),
    });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  };
  const names = ["about", "rows", "points", "losses", "ids", "row"];
  browseRows(Object.fromEntries(names.map((name) => [name, ask(name)])))
    .catch((error) => { document.getElementById("total").textContent = String(error.message); });
}
