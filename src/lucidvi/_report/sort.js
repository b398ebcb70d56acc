// Sorts a table by the column whose heading is clicked; the report and the pages of the documentation use it.
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, row = head.parentElement, body = row.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending", column = [...row.children].indexOf(head);
  for (const other of row.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = line => line.children[column].dataset.value ?? line.children[column].textContent;
  const numbers = [...body.rows].every(line => value(line) === "" || !isNaN(value(line)));
  const order = (a, b) => numbers ? a - b : a.localeCompare(b, undefined, {numeric: true});
  const lines = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return x === "" || y === "" ? (x === "") - (y === "") : up ? order(x, y) : order(y, x);
  });
  body.append(...lines);
});
