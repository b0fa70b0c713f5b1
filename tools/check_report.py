#!/usr/bin/env python3
"""check_report.py - open report.html in a headless Chromium and say whether it holds up.

    check_report.py PAGE.html [--out DIR] [--panels N] [--seconds S] [--chromium PROGRAM]

Opens the page light and dark, at 1280 and at 390 pixels of width. Fails when the page asks for anything
but itself, writes to the console, throws, shows a picture that cannot be decoded, draws a figure of no
size, is wider than the window (a phone would scroll sideways), holds less than N panels, or takes longer
than S seconds to load. With --out screenshots are left in DIR. Needs Chromium, nothing else: the
browser is spoken to over a pipe.
"""
import argparse, base64, json, os, shutil, subprocess, sys, tempfile, time

PROBE = r"""(() => {
  const all = s => [...document.querySelectorAll(s)];
  const size = e => { const r = e.getBoundingClientRect(); return [r.width, r.height]; };
  const flat = all('figure svg, figure img, .bars').filter(e => size(e).some(v => v < 1));
  return {svg: all('svg').length, img: all('img').length, bars: all('.bars').length, figure: all('figure').length,
          canvas: all('canvas').length, broken: all('img').filter(i => !i.complete || !i.naturalWidth).length,
          flat: flat.map(e => e.closest('figure').innerText.slice(0, 60)), wide: document.documentElement.scrollWidth - innerWidth,
          notes: all('.plot i').length, script: all('script').length, elements: all('*').length,
          height: document.documentElement.scrollHeight,
          strange: all('*').filter(e => [...e.attributes].some(a => /^on/i.test(a.name))).length,
          background: getComputedStyle(document.body).backgroundColor};
})()"""


class Browser:
    """The DevTools protocol over file descriptors 3 and 4, messages end in a NUL byte."""

    def __init__(self, program, profile):
        ours_r, theirs_w = os.pipe()
        theirs_r, ours_w = os.pipe()

        def plumb():
            os.dup2(theirs_r, 13), os.dup2(theirs_w, 14)
            os.dup2(13, 3), os.dup2(14, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
             "--remote-debugging-pipe", "about:blank"],
            preexec_fn=plumb, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_r), os.close(theirs_w)
        self.r, self.w, self.buffer, self.next, self.events = ours_r, ours_w, b"", 0, []

    def receive(self):
        while b"\0" not in self.buffer:
            more = os.read(self.r, 1 << 20)
            if not more:
                sys.exit("check_report: the browser went away")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, session=None, **params):
        self.next += 1
        message = {"id": self.next, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.w, data):]
        while True:
            answer = self.receive()
            if answer.get("id") == self.next:
                if "error" in answer:
                    sys.exit(f"check_report: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, method):
        while not any(e.get("method") == method for e in self.events):
            self.events.append(self.receive())

    def close(self):
        self.call("Browser.close")
        self.process.wait(20)


def look(b, url, scheme, width, shot):
    """One page in one setting: what happened while it loaded, and what it then holds."""
    target = b.call("Target.createTarget", url="about:blank")["targetId"]
    s = b.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Runtime", "Log"):
        b.call(domain + ".enable", s)
    b.call("Emulation.setEmulatedMedia", s, features=[{"name": "prefers-color-scheme", "value": scheme}])
    b.call("Emulation.setDeviceMetricsOverride", s, width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    b.events.clear()
    start = time.monotonic()
    b.call("Page.navigate", s, url=url)
    b.wait("Page.loadEventFired")
    seconds = time.monotonic() - start
    for image in range(40):                      # data: pictures may still be decoding
        seen = b.call("Runtime.evaluate", s, expression=PROBE, returnByValue=True)["result"]["value"]
        if not seen["broken"]:
            break
        time.sleep(0.1)
    if shot:
        picture = b.call("Page.captureScreenshot", s, format="png", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": width, "height": min(seen["height"], 12000), "scale": 1})
        with open(shot, "wb") as f:
            f.write(base64.b64decode(picture["data"]))
    requests = [e["params"]["request"]["url"] for e in b.events if e.get("method") == "Network.requestWillBeSent"]
    said = [e["params"] for e in b.events if e.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")]
    b.call("Target.closeTarget", targetId=target)
    return seen, [u for u in requests if u != url and not u.startswith("data:")], said, seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("page"), p.add_argument("--out"), p.add_argument("--panels", type=int, default=1)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"))
    a = p.parse_args()
    if not a.chromium:
        print("skip: no Chromium on the PATH; name one with --chromium")
        return 77
    if a.out:
        os.makedirs(a.out, exist_ok=True)
    bad, backgrounds = [], {}
    with tempfile.TemporaryDirectory() as profile:
        b = Browser(a.chromium, profile)
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                name = f"{scheme}-{width}"
                shot = a.out and os.path.join(a.out, name + ".png")
                seen, asked, said, seconds = look(b, "file://" + os.path.abspath(a.page), scheme, width, shot)
                print(f"{name}: {seen['figure']} figures ({seen['svg']} svg, {seen['img']} img, {seen['bars']} of rows, {seen['canvas']} canvas), "
                      f"{seen['notes']} notes, {seen['elements']} elements, {seconds:.2f} s to load, {os.path.getsize(a.page) / 1e6:.2f} MB")
                backgrounds[scheme] = seen["background"]
                for fault, value in (("asks for", asked), ("console", said), ("pictures that cannot be decoded", seen["broken"]),
                                     ("figures of no size", seen["flat"]), ("wider than the window, pixels", max(0, seen["wide"])),
                                     ("scripts", seen["script"]), ("event handlers", seen["strange"])):
                    if value:
                        bad.append(f"{name}: {fault}: {value}")
                panels = seen["svg"] + seen["img"] + seen["bars"] + seen["canvas"]
                if panels < a.panels:
                    bad.append(f"{name}: {panels} panels, expected {a.panels}")
                if seconds > a.seconds:
                    bad.append(f"{name}: {seconds:.2f} s to load")
        b.close()
    if backgrounds["light"] == backgrounds["dark"]:
        bad.append("light and dark look alike")
    print("\n".join(bad) if bad else "ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
