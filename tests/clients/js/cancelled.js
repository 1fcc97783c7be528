// Whether the server learns that its client has left.

// Call `leave`, which begins an answer and leaves it, and wait until the server has cancelled one more request.
export async function cancels(baseURL, leave) {
  const before = await cancelledRequests(baseURL);
  await leave();
  const giveUp = Date.now() + 40_000;
  while (Date.now() < giveUp) {
    if ((await cancelledRequests(baseURL)) === before + 1) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

async function cancelledRequests(baseURL) {
  const metrics = await (await fetch(new URL("/metrics", baseURL))).text();
  const counts = metrics.matchAll(/^lfm_requests_total\{.*finish_reason="cancelled".*\} (.+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}
