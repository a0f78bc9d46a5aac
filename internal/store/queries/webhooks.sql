-- HoldWebhook gives the webhook to a replica for a time, if no other has it. A new one begins at the end of the log.
-- name: HoldWebhook :one
INSERT INTO webhooks (name, cursor_seq, holder, held_until)
SELECT @name, l.seq, @holder, clock_timestamp() + @ttl::interval FROM event_log l
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
WHERE webhooks.holder = excluded.holder OR webhooks.held_until < clock_timestamp()
RETURNING cursor_seq, health;

-- name: ReleaseWebhook :exec
UPDATE webhooks SET held_until = '-infinity' WHERE name = @name AND holder = @holder;

-- AdvanceWebhook moves the cursor, if it is where the replica believes and the webhook is still its.
-- name: AdvanceWebhook :execrows
UPDATE webhooks SET cursor_seq = @to_seq, health = @health
WHERE name = @name AND holder = @holder AND cursor_seq = @from_seq AND held_until > clock_timestamp();

-- name: InsertDeliveries :exec
INSERT INTO webhook_deliveries (delivery_id, webhook, status, events, give_up_at, body)
SELECT unnest(@delivery_ids::text[]), @webhook::text, 'pending', unnest(@events::integer[]), clock_timestamp() + @give_up_after::interval,
    unnest(@bodies::json[]);

-- TakeDelivery begins an attempt of the next delivery that is due, which nobody else makes before the time is over.
-- name: TakeDelivery :one
UPDATE webhook_deliveries d SET attempts = d.attempts + 1, next_at = clock_timestamp() + @taken_for::interval
WHERE d.delivery_id = (
    SELECT x.delivery_id FROM webhook_deliveries x
    WHERE x.webhook = @webhook AND x.status = 'pending' AND x.next_at <= clock_timestamp()
    ORDER BY x.next_at, x.delivery_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING d.delivery_id, d.attempts, d.events, d.body, (d.give_up_at <= clock_timestamp())::boolean AS last_chance;

-- name: DeliveryDone :exec
UPDATE webhook_deliveries SET status = 'delivered', delivered_at = clock_timestamp(), last_error = '' WHERE delivery_id = @delivery_id;

-- name: DeliveryFailed :exec
UPDATE webhook_deliveries SET status = CASE WHEN @dead::boolean THEN 'dead' ELSE 'pending' END,
    next_at = clock_timestamp() + @again_in::interval, last_error = @last_error
WHERE delivery_id = @delivery_id AND status = 'pending';

-- name: WebhookSucceeded :exec
UPDATE webhooks SET last_success_at = clock_timestamp() WHERE name = @name;

-- name: WebhookFailed :exec
UPDATE webhooks SET last_error = @last_error, last_error_at = clock_timestamp() WHERE name = @name;

-- name: Webhooks :many
SELECT w.name, w.cursor_seq, w.last_success_at, w.last_error, w.last_error_at, l.seq - w.cursor_seq AS behind,
    (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook = w.name AND d.status = 'pending') AS pending,
    (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook = w.name AND d.status = 'dead') AS dead
FROM webhooks w CROSS JOIN event_log l ORDER BY w.name;

-- name: Deliveries :many
SELECT delivery_id, webhook, status, attempts, events, created_at, next_at, delivered_at, last_error
FROM webhook_deliveries
WHERE webhook = @webhook AND delivery_id < @before_id AND (@status::text = '' OR status = @status)
ORDER BY delivery_id DESC LIMIT @max_rows;

-- name: Delivery :one
SELECT delivery_id, webhook, status, attempts, events, created_at, next_at, delivered_at, last_error
FROM webhook_deliveries WHERE webhook = @webhook AND delivery_id = @delivery_id;

-- name: ReplayDelivery :execrows
UPDATE webhook_deliveries SET status = 'pending', attempts = 0, next_at = clock_timestamp(), delivered_at = NULL,
    give_up_at = clock_timestamp() + @give_up_after::interval
WHERE webhook = @webhook AND delivery_id = @delivery_id AND status <> 'pending';

-- name: PruneDeliveries :execrows
DELETE FROM webhook_deliveries WHERE delivery_id = ANY (ARRAY(
    SELECT d.delivery_id FROM webhook_deliveries d
    WHERE d.status <> 'pending' AND d.created_at < clock_timestamp() - (CASE d.status WHEN 'dead' THEN @dead::interval ELSE @delivered::interval END)
    LIMIT @max_rows));
