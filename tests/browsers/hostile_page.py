"""A page of somebody else, open in the browser in which a person is logging in, and all that it can try.

Its server answers under any name that leads to this machine, and notes every request.
"""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import web

from .browser import Browser, NavigationFailed

# Each way takes an address and tells what the page has learned of it: "read: …" if it was more than that something
# happened. Nothing here needs a person, and nothing leaves the page.
IN_THE_PAGE = r"""
const WAIT = 500;  // milliseconds
const text = async (response) =>
    response.type === 'opaque' ? 'opaque' : `read: ${response.status} ${await response.text()}`;
const get = (address, options) => fetch(address, options).then(text);
const element = (name, attributes, inner = '') => new Promise((resolve) => {
    const made = document.createElement(name);
    made.onload = made.onloadeddata = () => resolve('load');
    made.onerror = () => resolve('error');
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.innerHTML = inner;
    document.body.append(made);
});
const framed = async (attributes) => {
    const outcome = await element('iframe', attributes);
    const frame = [...document.querySelectorAll('iframe')].find((each) => each.src === attributes.src);
    return `${outcome} ${frame.contentDocument ? `read: ${frame.contentDocument.URL}` : frame.contentWindow.length}`;
};
const form = (address, method) => {
    const name = `form${Math.random()}`;
    element('iframe', {name});
    const made = document.createElement('form');
    Object.assign(made, {action: address, method, target: name});
    for (const [key, value] of new URL(address).searchParams) {
        const input = document.createElement('input');
        Object.assign(input, {name: key, value, type: 'hidden'});
        made.append(input);
    }
    document.body.append(made);
    made.submit();
    return new Promise((resolve) => { document.querySelector(`[name="${name}"]`).onload = () => resolve('load') });
};
const style = (css) => element('style', {}, css).then(() => {
    document.body.insertAdjacentHTML('beforeend', '<p class=styled>styled</p>');
});
const worker = (script) => new Promise((resolve) => {
    const made = new Worker(URL.createObjectURL(new Blob([script], {type: 'text/javascript'})));
    made.onmessage = ({data}) => resolve(data);
    made.onerror = () => resolve('error');
});
// No origin of its own: what it sends says "Origin: null".
const sandboxed = (script) => new Promise((resolve) => {
    const id = String(Math.random());
    addEventListener('message', ({data}) => data.id === id && resolve(data.outcome));
    const tell = `const tell = (outcome) => parent.postMessage({id: '${id}', outcome}, '*');`;
    element('iframe', {sandbox: 'allow-scripts allow-forms', srcdoc: `<script>${tell}${script}<` + '/script>'});
});
const quoted = (address) => JSON.stringify(address);
const rules = (kind, address) => {
    const made = document.createElement('script');
    made.type = 'speculationrules';
    const rule = {source: 'list', urls: [address], eagerness: 'immediate', referrer_policy: 'no-referrer'};
    made.textContent = JSON.stringify({[kind]: [rule]});
    document.body.append(made);
    return new Promise(() => {});
};

const WAYS = {
    'fetch': (a) => get(a),
    'fetch with cookies': (a) => get(a, {credentials: 'include'}),
    'fetch no-cors': (a) => get(a, {mode: 'no-cors', credentials: 'include'}),
    'fetch same-origin': (a) => get(a, {mode: 'same-origin'}),
    'fetch keepalive': (a) => get(a, {keepalive: true, mode: 'no-cors', credentials: 'include'}),
    'fetch no-cors HEAD': (a) => get(a, {method: 'HEAD', mode: 'no-cors', credentials: 'include'}),
    'fetch no-cors POST': (a) => get(a, {method: 'POST', body: 'x', mode: 'no-cors', credentials: 'include'}),
    'fetch with preflight': (a) => get(a, {method: 'PUT', headers: {'X-Any': 'x'}}),
    'fetch without following': (a) => get(a, {redirect: 'manual', credentials: 'include'}),
    'fetch from an empty origin': (a) => sandboxed(`fetch(${quoted(a)}, {credentials: 'include'}).then((r) => r.text())
        .then((t) => tell('read: ' + t), (e) => tell('refused: ' + e.name))`),
    'fetch no-cors from an empty origin': (a) => sandboxed(`
        fetch(${quoted(a)}, {mode: 'no-cors', credentials: 'include'})
        .then((r) => tell(r.type), (e) => tell('refused: ' + e.name))`),
    'fetch from a worker': (a) => worker(`fetch(${quoted(a)}).then((r) => r.text())
        .then((t) => postMessage('read: ' + t), (e) => postMessage('refused: ' + e.name))`),
    'fetch later': async (a) => fetchLater(a, {activateAfter: 0, credentials: 'include'}) && new Promise(() => {}),
    'XMLHttpRequest': (a) => new Promise((resolve) => {
        const request = new XMLHttpRequest();
        request.open('GET', a);
        request.withCredentials = true;
        request.onload = () => resolve(`read: ${request.responseText}`);
        request.onerror = () => resolve(`error ${request.status} ${request.getAllResponseHeaders()}`);
        request.send();
    }),
    'beacon': async (a) => String(navigator.sendBeacon(a, 'x')),
    'EventSource': (a) => new Promise((resolve) => {
        const source = new EventSource(a, {withCredentials: true});
        source.onmessage = ({data}) => { source.close(); resolve(`read: ${data}`) };
        source.onerror = () => { source.close(); resolve('error') };
    }),
    'WebSocket': (a) => new Promise((resolve) => {
        const socket = new WebSocket(a.replace(/^http/, 'ws'));
        socket.onopen = () => resolve('read: open');
        socket.onclose = ({code}) => resolve(`closed ${code}`);
    }),
    'img': (a) => element('img', {src: a}),
    'img with cors': (a) => element('img', {src: a, crossorigin: 'use-credentials'}),
    'input image': (a) => element('input', {type: 'image', src: a}),
    'svg image': (a) => new Promise((resolve) => {
        const made = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
        const image = document.createElementNS('http://www.w3.org/2000/svg', 'image');
        image.onload = () => resolve('load');
        image.onerror = () => resolve('error');
        image.setAttribute('href', a);
        made.append(image);
        document.body.append(made);
    }),
    'video': (a) => element('video', {src: a, preload: 'auto'}),
    'poster': (a) => element('video', {poster: a}),
    'audio': (a) => element('audio', {src: a, preload: 'auto'}),
    'script': (a) => element('script', {src: a}).then((outcome) => window.ran ? 'read: ran' : outcome),
    'module': (a) => element('script', {src: a, type: 'module'}),
    'import': (a) => import(a).then(() => 'read: module'),
    'stylesheet': (a) => element('link', {rel: 'stylesheet', href: a}),
    'css import': (a) => style(`@import ${quoted(a)};`),
    'css background': (a) => style(`.styled { background: url(${quoted(a)}) }`),
    'font': (a) => new FontFace(`font${Math.random()}`.replace('.', ''), `url(${quoted(a)})`).load().then(() => 'load'),
    'iframe': (a) => framed({src: a}),
    'sandboxed iframe': (a) => framed({src: a, sandbox: 'allow-scripts allow-same-origin'}),
    'object': (a) => element('object', {data: a, type: 'text/html'}),
    'embed': (a) => element('embed', {src: a, type: 'text/html'}),
    'form GET': (a) => form(a, 'get'),
    'form POST': (a) => form(a, 'post'),
    'form POST from an empty origin': (a) => sandboxed(`
        const made = document.createElement('form');
        Object.assign(made, {method: 'post', action: ${quoted(a)}});
        document.documentElement.append(made);
        made.submit()`),
    'prefetch': (a) => element('link', {rel: 'prefetch', href: a}),
    'prefetch document': (a) => element('link', {rel: 'prefetch', as: 'document', href: a}),
    'preload': (a) => element('link', {rel: 'preload', as: 'image', href: a}),
    'preload fetch': (a) => element('link', {rel: 'preload', as: 'fetch', crossorigin: 'use-credentials', href: a}),
    'modulepreload': (a) => element('link', {rel: 'modulepreload', href: a}),
    'prerender': (a) => element('link', {rel: 'prerender', href: a}),
    'speculation prefetch': (a) => rules('prefetch', a),
    'speculation prerender': (a) => rules('prerender', a),
    'preconnect': (a) => element('link', {rel: 'preconnect', href: a}),
    'service worker': (a) => navigator.serviceWorker.register(a).then(() => 'read: registered'),
    'worker': (a) => new Promise((resolve) => { new Worker(a).onerror = () => resolve('error') }),
    'importScripts': (a) => worker(`try { importScripts(${quoted(a)}); postMessage('read: ran') }
        catch (e) { postMessage('refused: ' + e.name) }`),
};

// A tab of its own, and what can be seen of that tab.
const TABS = {
    'window.open': async (address) => {
        const tab = window.open(address);
        await new Promise((resolve) => setTimeout(resolve, WAIT / 2));
        const seen = [`closed ${tab.closed}`, `frames ${tab.length}`];
        for (const look of [() => tab.location.href, () => tab.document.body.innerText, () => tab.history.length,
                            () => tab.performance.getEntries().length, () => tab.name])
            try { seen.push(`read: ${look()}`) } catch (error) { seen.push(error.name) }
        tab.close();
        return seen.join(', ');
    },
};

const outcome = (way, address) => Promise.race([
    Promise.resolve().then(() => way(address)).catch((error) => `refused: ${error.name}`),
    new Promise((resolve) => setTimeout(resolve, WAIT + 200, 'silence')),
]).then(String);
const signed = (address, name) => `${address}${address.includes('?') ? '&' : '?'}by=${encodeURIComponent(name)}`;
const attack = async (ways, addresses) => Object.fromEntries(await Promise.all(
    Object.entries(ways).flatMap(([name, way]) => Object.entries(addresses).map(async ([kind, address]) =>
        [`${name}: ${kind}`, await outcome(way, signed(address, name))]
))));
"""

# Ways to lead the whole tab to an address; "redirect" is one more.
HOPS = {
    "link": "<a id=go href='{to}'>go</a><script>go.click()</script>",
    "location": "<script>location.replace('{to}'.replaceAll('&amp;', '&'))</script>",
    "refresh": "<meta http-equiv=refresh content='0; url={to}'>",
    "get": "<form id=go action='{to}'>{inputs}</form><script>go.submit()</script>",
    "post": "<form id=go method=post action='{to}'>{inputs}</form><script>go.submit()</script>",
}


@dataclass(frozen=True)
class Asked:
    """A request that came: which way it was sent, and its headers."""

    method: str
    host: str
    path: str
    by: str
    headers: dict[str, str] = field(repr=False)


class HostileSite:
    """The server of a hostile page, and a stand-in for the loopback server that lets everybody in."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.port = 0

    @asynccontextmanager
    async def at(self, port: int = 0) -> AsyncIterator[HostileSite]:
        """Listen on 127.0.0.1 while this lasts."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
            await site.start()
            self.port = runner.addresses[0][1]
            yield self
        finally:
            await runner.cleanup()

    def origin(self, host: str) -> str:
        return f"http://{host}:{self.port}"

    def arrived(self) -> set[str]:
        """Return the ways by which something came."""
        return {asked.by for asked in self.requests if asked.by}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.host, request.path_qs, request.query.get("by", ""), dict(request.headers))
        self.requests.append(asked)
        headers = {"Referrer-Policy": "unsafe-url", "Cache-Control": "no-store"}
        if request.path.startswith("/hop/"):
            return _hop(request.path.removeprefix("/hop/"), request.query["to"], headers)
        if request.path == "/page":
            return _page(f"<h1>Hostile</h1><script>{IN_THE_PAGE}</script>", headers)
        return web.Response(text="window.ran = 1 // bait", headers=headers | _lets_in(request))


def _lets_in(request: web.Request) -> dict[str, str]:
    kind = request.headers.get("Sec-Fetch-Dest", "")
    types = {"style": "text/css", "document": "text/html", "iframe": "text/html"}
    return {
        "Content-Type": types.get(kind, "text/javascript"),
        "Access-Control-Allow-Origin": request.headers.get("Origin", "*"),
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Headers": "*, X-Any",
        "Access-Control-Allow-Methods": "*, PUT",
        "Set-Cookie": "bait=1; Path=/; HttpOnly; SameSite=Lax",
    }


def _hop(how: str, to: str, headers: dict[str, str]) -> web.Response:
    if how == "redirect":
        return web.Response(status=302, headers=headers | {"Location": to})
    pairs = [map(html.escape, pair) for pair in parse_qsl(to.partition("?")[2])]
    inputs = "".join(f"<input type=hidden name='{name}' value='{value}'>" for name, value in pairs)
    return _page(HOPS[how].format(to=html.escape(to), inputs=inputs), headers)


def _page(body: str, headers: dict[str, str]) -> web.Response:
    return web.Response(text=f"<!doctype html><title>T</title><body>{body}", content_type="text/html", headers=headers)


async def lead(browser: Browser, site: str, how: str, to: str) -> None:
    """Let a page of the origin `site` lead the tab to an address, and wait until it is there."""
    with suppress(NavigationFailed):  # Chromium's own page instead of an answer without a body
        await browser.goto(f"{site}/hop/{how}?to={quote(f'{to}&by={how}', safe='')}")
    await browser.wait_for(url=urlsplit(to).netloc + urlsplit(to).path)


async def attack(browser: Browser, ways: str, addresses: dict[str, str]) -> dict[str, str]:
    """Try all `ways` (the name of a table above) with all addresses; return what the page has learned by each."""
    learned: dict[str, str] = await browser.execute(f"return await attack({ways}, {json.dumps(addresses)})")
    return learned


def readable(learned: dict[str, str]) -> list[str]:
    """Return by which ways the page could read something, or see for certain that somebody answered."""
    return [way for way, outcome in learned.items() if "read: " in outcome or outcome == "opaque"]
