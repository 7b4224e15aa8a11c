// Pans the page of `insession graph` for 120 frames and writes down how long each took.
(async () => {
  // The page is not loaded, and so not left, before this is done.
  const hold = document.body.appendChild(document.createElement("iframe"));
  hold.hidden = true;
  hold.contentDocument.open();
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const at = (type, x, y) => new MouseEvent(type, { bubbles: true, cancelable: true, view: window, clientX: x, clientY: y, buttons: type === "mouseup" ? 0 : 1 });
  while (!document.documentElement.dataset.drawn) await frame();
  await new Promise((done) => setTimeout(done, 500));
  const frames = [];
  over.dispatchEvent(at("mousedown", 600, 400));
  let last = performance.now();
  for (let nth = 0; nth < 120; nth++) {
    window.dispatchEvent(at("mousemove", 600 + 2 * nth, 400 + 60 * Math.sin(nth / 9)));
    await frame();
    const now = performance.now();
    frames.push(now - last);
    last = now;
  }
  window.dispatchEvent(at("mouseup", 840, 400));
  frames.sort((one, other) => one - other);
  document.documentElement.dataset.frames = [59, 113, 119].map((nth) => frames[nth].toFixed(1)).join(" ");
  document.getElementById("fit").click();
  await new Promise((done) => setTimeout(done, 900));
  hold.contentDocument.close();
})();
