//! SQS, as the parser uses it: what is received stays hidden while it is worked on, and ends deleted or in the dead-letter queue.
use std::{collections::HashMap, time::Duration};

use aws_config::{SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::{
    error::DisplayErrorContext,
    types::{Message, MessageAttributeValue, MessageSystemAttributeName},
};
use backon::{BackoffBuilder as _, ExponentialBuilder};

use crate::{config::Config, refused::Refused};

/// How much longer than a poll its call may take: one may hang for ever on a lost connection.
const POLL_ENDS: Duration = Duration::from_secs(5);
/// Every other call is answered in milliseconds, and must not outlast the visibility that it renews.
const CALL_ENDS: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);
/// A message that is put off comes again after this and more, with every time it was received; with jitter up to twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(2);
const LONGEST_DELAY: Duration = Duration::from_secs(450);
/// As often may a message's readers have been killed without being under suspicion.
const UNSUSPECTED: u32 = 4;

/// How long to wait for a message.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Until there is one, for as long as is configured.
    LongPoll,
    /// Just to learn whether the queue answers.
    No,
}

/// A received message.
pub struct Received {
    /// SQS' id for it, for logs.
    pub id: String,
    /// What S3 wrote.
    pub body: String,
    /// How often it was received, this time included. Readers that were killed and outages count, refusals do not: there is only one.
    pub receives: u32,
    receipt: String,
}

impl Received {
    /// Whether it has outlived so many readers that it may be what killed them.
    pub const fn suspect(&self) -> bool {
        self.receives > UNSUSPECTED
    }

    /// How long it is hidden at a time: a suspect for longer each time, so that a file that kills its readers kills few.
    pub fn hidden_for(&self, visibility: Duration) -> Duration {
        let doublings = self.receives.saturating_sub(UNSUSPECTED).min(16);
        visibility.max((visibility * 2_u32.pow(doublings)).min(LONGEST_DELAY * 2))
    }
}

/// The parser's queue and its dead-letter queue.
pub struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
    dead_letters: String,
    visibility: Duration,
    poll: Duration,
}

impl Queue {
    /// The queues that the configuration names.
    pub fn new(sdk: &SdkConfig, config: &Config) -> Self {
        let client = aws_sdk_sqs::config::Builder::from(sdk)
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts(CALL_ENDS));
        Self {
            client: aws_sdk_sqs::Client::from_conf(client.build()),
            url: config.queue_url.clone(),
            dead_letters: config.dead_letter_queue_url.clone(),
            visibility: config.visibility,
            poll: config.poll,
        }
    }

    /// Waits for messages, or not at all. It is not tried again here: whoever asks does, and can say meanwhile that the queue is gone.
    pub async fn receive(&self, most: usize, wait: Wait) -> Result<Vec<Received>, String> {
        let once =
            aws_sdk_sqs::config::Builder::new().retry_config(RetryConfig::disabled()).timeout_config(timeouts(self.poll + POLL_ENDS));
        let received = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(most.clamp(1, 10)).unwrap_or(10))
            .wait_time_seconds(match wait {
                Wait::LongPoll => seconds(self.poll),
                Wait::No => 0,
            })
            .visibility_timeout(seconds(self.visibility))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(once)
            .send()
            .await
            .map_err(|error| format!("SQS: {}", DisplayErrorContext(&error)))?;
        Ok(received.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Hides a suspect for longer before it is opened: if it kills this reader too, it won't kill the next one soon.
    pub async fn set_aside(&self, message: &Received) {
        self.hide(message, message.hidden_for(self.visibility)).await;
    }

    /// Keeps a message hidden for as long as it is polled. A renewal that fails is tried again soon; if all fail, another pod sees the
    /// message, and that its file is locked.
    pub async fn keep_hidden(&self, message: &Received) -> std::convert::Infallible {
        let hidden = message.hidden_for(self.visibility);
        let mut next = hidden / 2;
        loop {
            tokio::time::sleep(next).await;
            next = if self.hide(message, hidden).await { hidden / 2 } else { (hidden / 8).max(Duration::from_secs(1)) };
        }
    }

    /// Lets a message come again later: the later, the more often it has come already.
    pub async fn put_off(&self, message: &Received) {
        let delays = ExponentialBuilder::new().with_min_delay(FIRST_DELAY).with_max_delay(LONGEST_DELAY).without_max_times().with_jitter();
        let nth = usize::try_from(message.receives.saturating_sub(1)).unwrap_or(usize::MAX).min(16);
        self.hide(message, delays.build().nth(nth).unwrap_or(LONGEST_DELAY)).await;
    }

    /// Lets a message come again at once, to another pod.
    pub async fn release(&self, message: &Received) {
        self.hide(message, Duration::ZERO).await;
    }

    /// The message's work is done.
    pub async fn delete(&self, message: &Received) {
        if let Err(error) = self.client.delete_message().queue_url(&self.url).receipt_handle(&message.receipt).send().await {
            tracing::warn!(error = %DisplayErrorContext(&error), "can't delete a message; it comes again and will be found already parsed");
        }
    }

    /// Sends the message to the dead-letter queue with the reason, and deletes it here. A kill in between leaves it in both, and then
    /// twice over there: at least once, as everything.
    pub async fn bury(&self, message: &Received, refused: &Refused) {
        let sent = self
            .client
            .send_message()
            .queue_url(&self.dead_letters)
            .message_body(&message.body)
            .set_message_attributes(Some(attributes(&[
                ("code", refused.code()),
                ("reason", &refused.to_string()),
                ("message_id", &message.id),
            ])))
            .send()
            .await;
        match sent {
            Ok(_) => self.delete(message).await,
            Err(error) => {
                tracing::warn!(error = %DisplayErrorContext(&error), "can't send to the dead-letter queue; the message comes again");
                self.put_off(message).await;
            }
        }
    }

    async fn hide(&self, message: &Received, how_long: Duration) -> bool {
        let request = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(&message.receipt);
        let changed = request.visibility_timeout(seconds(how_long)).send().await;
        if let Err(error) = &changed {
            tracing::warn!(error = %DisplayErrorContext(error), "can't change a message's visibility");
        }
        changed.is_ok()
    }
}

fn message(message: Message) -> Option<Received> {
    let receives = message.attributes().and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount)?.parse().ok());
    Some(Received {
        id: message.message_id.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
        receives: receives.unwrap_or(1),
        receipt: message.receipt_handle?,
    })
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(attempt).build()
}

/// SQS refuses most control characters and empty texts, and 256 KiB are for the body too.
fn attributes(texts: &[(&str, &str)]) -> HashMap<String, MessageAttributeValue> {
    let plain = |text: &str| text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(1000).collect::<String>();
    let value = |text: &str| MessageAttributeValue::builder().data_type("String").string_value(plain(text)).build().ok();
    let filled = texts.iter().filter(|(_, text)| !text.is_empty());
    filled.filter_map(|(name, text)| Some(((*name).to_owned(), value(text)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receives: u32) -> Received {
        Received { id: String::new(), body: String::new(), receives, receipt: String::new() }
    }

    #[test]
    fn a_message_that_outlives_its_readers_is_hidden_for_longer_and_longer() {
        let hidden = |receives| received(receives).hidden_for(Duration::from_secs(60)).as_secs();
        assert_eq!([1, 4, 5, 6, 7, 8, 9, 100].map(hidden), [60, 60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(received(9).hidden_for(Duration::from_secs(3600)).as_secs(), 3600, "never for less than was asked for");
        assert!(!received(4).suspect() && received(5).suspect());
    }
}
