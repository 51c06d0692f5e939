'use strict';
// Shows what comes as events. The work for an event is that of the rows in it, however many others there are; text goes
// into text nodes and nowhere else.
{
    const byId = (id) => document.getElementById(id);
    const HERE = location.pathname;
    const QUIET = 6000; // milliseconds without an event: three times what the server lets pass
    const KINDS = {
        'waiting': 'rest', 'logging in': 'now', 'storing': 'now', 'done': 'good', 'skipped': 'skipped',
    }; // the others are bad
    const shown = new Map(); // number → what stands on the page of a row
    const ticking = new Set(); // of those, whose seconds run
    const counts = {all: 0, needs: 0, waiting: 0, done: 0, good: 0, bad: 0, skipped: 0, rest: 0, now: 0};
    const bar = Object.fromEntries([...document.querySelectorAll('.bar span')].map((part) => [part.className, part]));
    let title = '';
    let over = '';
    let isLost = false;

    const put = (element, text) => {
        if (element.textContent !== text) element.textContent = text;
    };
    const hide = (element, isHidden) => {
        if (element.hidden !== isHidden) element.hidden = isHidden;
    };
    const draw = (cell, state) => {
        cell.querySelector('use').setAttribute('href', `#${state.replaceAll(' ', '-')}`);
        put(cell.lastElementChild, state);
    };
    const say = (words) => { byId('said').textContent = words };
    const company = ({company: found}) => found ? [found.name, found.id].filter(Boolean).join(', ') : '';
    const kind = (row) => KINDS[row.state] ?? 'bad';
    const isSkippable = (row) => row.state === 'waiting' || row.state === 'logging in';
    const needsSomebody = (row) => row.state === 'logging in' || kind(row) === 'bad';
    const count = (row, by) => {
        counts.all += by;
        counts[kind(row)] += by;
        if (needsSomebody(row)) counts.needs += by;
        if (row.state === 'waiting') counts.waiting += by;
        if (row.state === 'done') counts.done += by;
    };

    // -- one row -------------------------------------------------------------------------------

    const makeRow = (row) => {
        const line = byId('row').content.firstElementChild.cloneNode(true);
        line.dataset.number = row.number;
        const cells = Object.fromEntries(['account', 'login', 'state', 'company', 'seconds', 'message', 'connect', 'skip']
            .map((name) => [name, line.querySelector(`.${name}`)]));
        put(cells.account, row.account);
        put(cells.login, row.login ?? '');
        cells.skip.ariaLabel = `Skip ${row.account}`;
        return {line, cells, row: null, card: null, since: 0};
    };

    // Whoever has the focus on what goes away shall not begin at the top again.
    const keepFocus = (going, instead) => {
        if (going.contains(document.activeElement)) instead.focus({preventScroll: true});
    };

    const showRow = (item) => {
        const {row, cells, line} = item;
        const before = item.before;
        if (before?.state !== row.state) {
            line.dataset.kind = kind(row);
            line.dataset.state = row.state;
            line.toggleAttribute('data-needs', needsSomebody(row));
            draw(cells.state, row.state);
            const connect = row.state === 'waiting' ? 'Connect' : row.is_settled && row.state !== 'done' ? 'Retry' : '';
            if (connect) {
                put(cells.connect, connect);
                cells.connect.ariaLabel = `${connect} ${row.account}`;
            }
            for (const [button, isShown] of [[cells.connect, !!connect], [cells.skip, isSkippable(row)]]) {
                if (!isShown && !button.hidden) keepFocus(button, line.firstElementChild);
                hide(button, !isShown);
            }
        }
        for (const button of [cells.connect, cells.skip]) button.ariaDisabled = null;
        put(cells.company, company(row));
        put(cells.message, row.message ?? '');
    };

    const showSeconds = (item) => {
        const {row, cells, card, since} = item;
        if (row.seconds === null || row.state === 'waiting') return put(cells.seconds, '');
        const seconds = row.seconds + (row.is_settled ? 0 : (performance.now() - since) / 1000);
        const text = row.is_settled ? seconds.toFixed(1) : seconds.toFixed(0);
        put(cells.seconds, text);
        if (card) put(card.querySelector('.seconds'), `${text} s`);
    };

    // -- one card: what a person needs for a login that is open ----------------------------------

    const showCard = (item) => {
        const {row} = item;
        if (row.is_settled || (row.state === 'waiting' && !row.start_url)) {
            if (item.card) {
                keepFocus(item.card, byId('now-heading'));
                item.card.remove();
                item.card = null;
            }
            return;
        }
        if (!item.card) {
            item.card = byId('card').content.firstElementChild.cloneNode(true);
            item.card.dataset.number = row.number;
            item.card.querySelector('.skip').ariaLabel = `Skip ${row.account}`;
            item.card.querySelector('.login .copy').ariaLabel = `Copy the login of ${row.account}`;
            item.card.querySelector('.start .copy').ariaLabel = `Copy address of ${row.account}`;
            byId('cards').append(item.card);
        }
        const {card} = item;
        const optional = (css, text) => {
            const part = card.querySelector(css);
            put(part.querySelector('strong') ?? part, text || '');
            hide(part, !text);
        };
        card.dataset.state = row.state;
        put(card.querySelector('h3'), row.account);
        draw(card.querySelector('.state'), row.state);
        const skip = card.querySelector('.skip');
        skip.ariaDisabled = null;
        if (!isSkippable(row)) keepFocus(skip, byId('now-heading'));
        hide(skip.parentElement, !isSkippable(row));
        const isOpen = row.state !== 'storing';
        optional('.login', isOpen && row.login);
        optional('.expected', isOpen && row.company_id);
        optional('.notes', isOpen && row.notes);
        optional('.message', row.message);
        const steps = card.querySelector('ol');
        if (steps.childElementCount !== row.steps.length || row.steps.some((step, i) => steps.children[i].textContent !== step)) {
            steps.replaceChildren(...row.steps.map((step) => Object.assign(document.createElement('li'), {textContent: step})));
        }
        hide(steps, !row.steps.length || !isOpen);
        const start = card.querySelector('.start');
        const address = start.querySelector('input');
        if (address.value !== (row.start_url ?? '')) address.value = row.start_url ?? '';
        hide(start, !row.start_url);
    };

    // -- all of them -----------------------------------------------------------------------------

    const SYMBOL = {good: '%231a7f4b', bad: '%23b3261e', now: '%23c98a14', rest: '%238a94a3'};
    const showProgress = () => {
        const {all, done, skipped} = counts;
        const needs = over ? all - done : counts.needs;
        const left = [needs && (over ? `${needs} not done` : `${needs} ${needs === 1 ? 'needs' : 'need'} you`), skipped && !over && `${skipped} skipped`];
        if (over) put(byId('name-needs'), 'Not done');
        put(byId('done-of'), `${done} of ${all} done`);
        put(byId('left-over'), left.filter(Boolean).join(', '));
        Object.assign(byId('how-far'), {max: Math.max(all, 1), value: done});
        for (const [name, part] of Object.entries(bar)) {
            part.style.flexGrow = name === 'rest' ? counts.rest + counts.now : counts[name];
        }
        const numbers = {...counts, needs};
        for (const name of ['all', 'needs', 'waiting', 'done']) put(byId(`count-${name}`), String(numbers[name]));
        showNone();
        hide(byId('nobody'), byId('cards').childElementCount > 0);
        const what = isLost ? 'No answer' : over ? 'Over' : '';
        const words = `${what && `${what}: `}${done}/${all} done${needs && !over ? `, ${left[0]}` : ''}`;
        const name = title ? `${words} – ${title}` : words;
        if (document.title !== name) document.title = name;
        const colour = SYMBOL[isLost ? 'bad' : needs ? (over ? 'bad' : 'now') : done === all ? 'good' : 'rest'];
        const icon = `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${colour}"/></svg>`;
        const link = document.querySelector('link');
        if (link.getAttribute('href') !== icon) link.href = icon;
    };
    const showNone = () => {
        const {show} = document.querySelector('table').dataset;
        hide(byId('none'), !counts.all || (show === 'needs' && over ? counts.all > counts.done : counts[show] > 0));
    };

    const take = (rows) => {
        const fresh = document.createDocumentFragment();
        const settled = [];
        for (const row of rows) {
            let item = shown.get(row.number);
            if (!item) {
                item = makeRow(row);
                shown.set(row.number, item);
                fresh.append(item.line);
            }
            item.before = item.row;
            if (item.before) count(item.before, -1);
            count(row, 1);
            item.row = row;
            item.since = performance.now();
            showCard(item);
            showRow(item);
            showSeconds(item);
            if (row.is_settled || row.state === 'waiting') ticking.delete(item);
            else ticking.add(item);
            if (row.is_settled && item.before && !item.before.is_settled) settled.push(row);
        }
        byId('rows').append(fresh);
        showProgress();
        if (settled.length) {
            const told = settled.slice(0, 3).map((row) => `${row.account}: ${row.state}`);
            if (settled.length > 3) told.push(`${settled.length - 3} more are settled`);
            say(told.join('. '));
        }
    };

    setInterval(() => { if (!isLost && !over) ticking.forEach(showSeconds) }, 1000);

    // -- what a person does ----------------------------------------------------------------------

    const act = async (button, number, action) => {
        if (button.ariaDisabled || isLost || over) return;
        button.ariaDisabled = 'true'; // until the row changes; a disabled button would lose the focus
        try {
            const asked = await fetch(`${HERE}/rows/${number}/${action}`, {
                method: 'POST', headers: {'X-Loopback-Auth': 'board'}, redirect: 'error',
            });
            if (!asked.ok) throw new Error(String(asked.status));
        } catch {
            say(`That did not work: ${button.ariaLabel}`);
        }
        setTimeout(() => { button.ariaDisabled = null }, 2000); // it may have changed nothing
    };

    const copy = async (button, text, from) => {
        const words = button.textContent;
        try {
            await navigator.clipboard.writeText(text);
            button.textContent = 'Copied';
            say('Copied');
        } catch { // the browser forbids it: by hand
            if (from.select) {
                from.focus();
                from.select();
            } else getSelection().selectAllChildren(from);
            button.textContent = 'Press Ctrl+C';
            say('Selected, press Ctrl+C to copy');
        }
        if (!button.dataset.words) {
            button.dataset.words = words;
            setTimeout(() => {
                button.textContent = button.dataset.words;
                delete button.dataset.words;
            }, 2500);
        }
    };

    document.addEventListener('click', ({target}) => {
        const button = target.closest?.('button');
        if (!button) return;
        const place = button.closest('[data-number]');
        if (button.id === 'copy-summary') {
            byId('summary').open = true;
            showSummary();
            copy(button, byId('summary-text').value, byId('summary-text'));
        } else if (button.className === 'copy') {
            const from = button.parentElement.querySelector('input, strong');
            copy(button, from.value ?? from.textContent, from);
        } else if (place) act(button, Number(place.dataset.number), button.className);
    });

    document.addEventListener('change', ({target}) => {
        if (target.name !== 'show') return;
        document.querySelector('table').dataset.show = target.value;
        showNone();
    });
    // A reload may bring the choice back.
    document.querySelector('table').dataset.show = document.querySelector('[name=show]:checked').value;

    const showSummary = () => {
        const lines = [['ACCOUNT', 'STATE', 'COMPANY', 'SECONDS', 'MESSAGE'], ...[...shown.values()].map(({row}) =>
            [row.account, row.state, company(row), row.is_settled ? row.seconds?.toFixed(1) ?? '' : '', row.message ?? ''])];
        const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)));
        byId('summary-text').value = lines.map((line) =>
            line.map((cell, i) => i === 3 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])).join('  ').trimEnd()).join('\n') + '\n';
    };
    byId('summary').addEventListener('toggle', () => { if (byId('summary').open) showSummary() });

    // -- the stream ------------------------------------------------------------------------------

    const notice = (kind, words) => {
        const place = byId('notice');
        place.className = kind;
        put(place, words);
    };
    const lose = () => {
        if (isLost || over) return;
        isLost = true;
        document.body.dataset.lost = '';
        notice('bad', 'loopback-auth does not answer any more: look at the terminal');
        showProgress();
    };
    const find = () => {
        heard = performance.now();
        if (!isLost) return;
        isLost = false;
        delete document.body.dataset.lost;
        notice('', '');
        showProgress();
    };

    let heard = performance.now();
    const listen = () => {
        const source = new EventSource(`${HERE}/events`);
        const on = (name, heed) => source.addEventListener(name, ({data}) => {
            find();
            heed(JSON.parse(data));
        });
        on('still here', () => {});
        on('run', (run) => {
            title = run.title;
            if (title) put(byId('title'), title);
        });
        on('rows', take);
        on('over', (words) => {
            source.close();
            over = words;
            keepFocus(byId('now'), byId('notice'));
            keepFocus(byId('rows'), byId('notice'));
            document.body.dataset.over = '';
            notice(counts.done === counts.all ? 'good' : 'plain', words);
            showProgress();
            if (byId('summary').open) showSummary();
        });
        on('elsewhere', () => {
            source.close();
            over = 'elsewhere';
            document.body.dataset.over = '';
            notice('plain', 'The board was opened in other tabs. Reload this one to see it here again.');
        });
        source.addEventListener('error', () => {
            if (over) return;
            if (source.readyState === EventSource.CLOSED) { // some browsers give up where others try again
                lose();
                setTimeout(listen, 3000);
            }
        });
    };
    setInterval(() => { if (performance.now() - heard > QUIET) lose() }, 500);
    listen();
}
