<?php
/**
 * Tells Reshelve which products changed, once Magento's fulltext indexer has put them into the index. For cron.
 *
 * Magento's triggers write the id of each changed product into `catalogsearch_fulltext_cl`, numbered; `mview_state` has
 * the number up to which the indexer has worked them off. What lies between our own last number and that one can be
 * read in the index by now, so it is posted. Our number is written down after the answer, never before: what is sent
 * twice does no harm. Magento deletes old entries; when ours may be among them, a run is ordered instead.
 *
 * Needs PHP 7.4 or newer with pdo_mysql and curl, which Magento needs itself.
 */
declare(strict_types=1);

const PRODUCTS_A_MESSAGE = 500;

function setting(string $name, ?string $default = null): string
{
    $value = getenv($name);
    $value = $value === false || $value === '' ? $default : $value;
    if ($value === null) {
        fwrite(STDERR, "Set $name.\n");
        exit(2);
    }
    return $value;
}

/** The database of the shop, as Magento itself is told to find it, or a replica; and the prefix of its tables. */
function shop(string $root): array
{
    $told = (include "$root/app/etc/env.php")['db'];
    $at = $told['connection']['default'];
    [$host, $port] = explode(':', $at['host'] . ':3306');
    $where = strpos($host, '/') === false ? "host=$host;port=$port" : "unix_socket=$host";
    $dsn = setting('REPLICA_DSN', "mysql:$where;dbname={$at['dbname']};charset=utf8mb4");
    $db = new PDO($dsn, $at['username'], $at['password'], [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    return [$db, $told['table_prefix'] ?? ''];
}

function number(PDO $db, string $query): ?int
{
    $found = $db->query($query)->fetchColumn();
    return $found === false || $found === null ? null : (int) $found;
}

/** The status and the body of an answer; status 0 when there was none. */
function post(string $url, string $body, array $headers): array
{
    $call = curl_init($url);
    curl_setopt_array($call, [
        CURLOPT_POST => true,
        CURLOPT_POSTFIELDS => $body,
        CURLOPT_HTTPHEADER => array_merge(['Content-Type: application/json'], $headers),
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CONNECTTIMEOUT => 5,
        CURLOPT_TIMEOUT => 30,
    ]);
    $answer = curl_exec($call);
    return [$answer === false ? 0 : curl_getinfo($call, CURLINFO_RESPONSE_CODE), (string) $answer];
}

/** Signed as Standard Webhooks: HMAC-SHA256 over id, time and body, with the bytes behind `whsec_`. */
function signed(string $secret, string $id, string $body): array
{
    $now = time();
    $key = base64_decode(substr($secret, strlen('whsec_')), true);
    $signature = base64_encode(hash_hmac('sha256', "$id.$now.$body", $key, true));
    return ["webhook-id: $id", "webhook-timestamp: $now", "webhook-signature: v1,$signature"];
}

/** Up to here; cron comes again, and begins where the last good answer was. */
function stop(string $what, int $status, string $answer): void
{
    fwrite(STDERR, "$what was not taken (status $status): $answer\n");
    exit(1);
}

$url = rtrim(setting('RESHELVE_URL'), '/');
$catalogue = rawurlencode(setting('RESHELVE_CATALOGUE'));
$secret = setting('RESHELVE_SECRET');
$file = setting('STATE_FILE');
[$db, $prefix] = shop(setting('MAGENTO_ROOT'));

$done = number($db, "SELECT version_id FROM {$prefix}mview_state WHERE view_id = 'catalogsearch_fulltext'");
if ($done === null) {
    fwrite(STDERR, "Magento has no list of changes: bin/magento indexer:set-mode schedule catalogsearch_fulltext\n");
    exit(2);
}
$seen = is_file($file) ? (int) file_get_contents($file) : null;
$oldest = number($db, "SELECT MIN(version_id) FROM {$prefix}catalogsearch_fulltext_cl");

if ($seen === null || $done < $seen || ($done > $seen && ($oldest === null || $oldest > $seen + 1))) {
    $order = json_encode(['catalogue' => rawurldecode($catalogue), 'reason' => 'changes may have been missed']);
    [$status, $answer] = post("$url/api/v1/sync", $order, ['Authorization: Bearer ' . setting('RESHELVE_TOKEN')]);
    if ($status === 409 && strpos($answer, '"active"') !== false) {
        exit(0);  // It may have read before the change: another one is ordered when it is over.
    }
    if ($status !== 202) {
        stop('The order of a run', $status, $answer);
    }
    file_put_contents($file, (string) $done);
    exit(0);
}

// A variant is part of its parent's document. On Adobe Commerce parent_id is a row_id: join catalog_product_entity.
$changed = "SELECT entity_id FROM {$prefix}catalogsearch_fulltext_cl WHERE version_id > ? AND version_id <= ?";
$query = $db->prepare(
    "$changed UNION SELECT parent_id FROM {$prefix}catalog_product_relation WHERE child_id IN ($changed)"
);
$query->execute([$seen, $done, $seen, $done]);
$ids = array_map('strval', $query->fetchAll(PDO::FETCH_COLUMN));

foreach (array_chunk($ids, PRODUCTS_A_MESSAGE) as $place => $some) {
    $events = array_map(fn (string $id): array => ['product_id' => $id], $some);
    $body = json_encode(['events' => $events]);
    $message = "magento-$catalogue-$seen-$done-$place-" . substr(hash('sha256', $body), 0, 12);
    [$status, $answer] = post("$url/api/v1/hooks/$catalogue", $body, signed($secret, $message, $body));
    if ($status !== 202) {
        stop('A message', $status, $answer);
    }
}
file_put_contents($file, (string) $done);
