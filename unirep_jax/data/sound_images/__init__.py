"""Images and their sounds: annotations of AVE, Flickr-SoundNet, VGG-SS and MUSIC."""
