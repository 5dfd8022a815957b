"""CopyObject with If-None-Match: S3 refuses it where the key is taken (the API's model of aws-sdk-s3 1.157 says so); ministack does not look."""
from ministack.services import s3


def _copy_object(original):
    def copy(bucket_name, dest_key, headers):
        bucket = s3._ensure_bucket(bucket_name)
        if bucket is not None and (refused := s3._check_put_preconditions(headers, bucket["objects"].get(dest_key))):
            return refused
        return original(bucket_name, dest_key, headers)

    return copy


def install():
    """Replaces the function; ministack looks it up by name when a request comes."""
    s3._copy_object = _copy_object(s3._copy_object)
