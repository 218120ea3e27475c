// Return what a person would see wrong on this page, one sentence each.
() => {
  const faults = [];
  const quoted = (text) => JSON.stringify(text.trim().replace(/\s+/g, ' ').slice(0, 60));

  // Every line of visible text, clipped as it is on the screen.
  const clipped = (box, element) => {
    for (let parent = element; parent; parent = parent.parentElement) {
      const style = getComputedStyle(parent);
      if (parent.tagName.toLowerCase() === 'svg' || style.overflowX !== 'visible') {
        const limit = parent.getBoundingClientRect();
        box = {
          left: Math.max(box.left, limit.left), right: Math.min(box.right, limit.right),
          top: Math.max(box.top, limit.top), bottom: Math.min(box.bottom, limit.bottom),
        };
      }
    }
    return box;
  };
  const lines = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility({visibilityProperty: true})) continue;
    if (element.closest('style, script, title, desc, defs')) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      const drawn = clipped(box, element);
      const svg = element.closest('svg');
      if (svg && (drawn.right - drawn.left < box.width - 1 || drawn.bottom - drawn.top < box.height - 1))
        faults.push(`cut off: ${quoted(node.data)}`);
      const slack = (drawn.bottom - drawn.top) / 5;  // a line is higher than its letters
      lines.push({node, element, left: drawn.left + 1, right: drawn.right - 1,
                  top: drawn.top + slack, bottom: drawn.bottom - slack});
    }
  }
  if (!lines.length) faults.push('the page shows no text');

  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width)
    faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} of ${width} pixels`);

  lines.forEach((one, index) => {
    for (const other of lines.slice(index + 1))
      if (one.node !== other.node
          && Math.min(one.right, other.right) > Math.max(one.left, other.left)
          && Math.min(one.bottom, other.bottom) > Math.max(one.top, other.top))
        faults.push(`overlap: ${quoted(one.node.data)} and ${quoted(other.node.data)}`);
  });

  // WCAG 2.1, 1.4.3: the contrast of text, in plots and on tinted cells too.
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parsed = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, below) =>
    [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const canvas = matchMedia('(prefers-color-scheme: dark)').matches
    && getComputedStyle(document.documentElement).colorScheme.includes('dark')
    ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const background = (element) => element
    ? over(parsed(getComputedStyle(element).backgroundColor), background(element.parentElement))
    : canvas;
  const luminance = (color) => {
    const [red, green, blue] = color.slice(0, 3).map((value) => value / 255).map(
      (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  for (const {node, element} of lines) {
    const style = getComputedStyle(element);
    const below = background(element);
    const color = over(parsed(element.closest('svg') ? style.fill : style.color), below);
    const [dark, light] = [luminance(color), luminance(below)].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(1)}: ${quoted(node.data)}`);
  }

  for (const picture of document.querySelectorAll('img, svg, canvas')) {
    const text = picture.getAttribute('alt') || picture.getAttribute('aria-label') || '';
    if (!text.trim()) faults.push(`no alternative text: ${picture.tagName.toLowerCase()}`);
    if (picture.getBoundingClientRect().width < 20)
      faults.push(`invisible: ${picture.tagName.toLowerCase()} ${quoted(text)}`);
    if (picture.tagName === 'IMG' && !picture.naturalWidth)
      faults.push(`not shown: ${quoted(text)}`);
  }
  return [...new Set(faults)];
}
